"""stemzoo: atomic columns, local symmetry and a model zoo for atomic-resolution STEM. Importing it loads no torch.

`stemzoo.io.read` opens a microscope's file; `stemzoo.runtime` finds columns and encodes what is around them; `stemzoo.analyze` makes a
folder of results of a file; `stemzoo.zoo` knows the models; `stemzoo.simulation` makes datasets and `stemzoo.training` networks.
`stemzoo.types` says what travels between them, and in which units; docs/python.md has an example of each.
"""

__version__ = "0.1.0"
