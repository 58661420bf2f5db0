"""The report of an analysis: figures as PNG files and one self-contained page. Called by `stemzoo.analyze`."""
