"""At the microscope: `watch` analyses a folder as it fills, `server` answers over HTTP and shows a live page. Called by stemzoo.cli.live.

Importing this package loads nothing; `server` and what it is made of need the extra `serve`.
"""
