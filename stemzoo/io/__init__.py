"""Files in and out: `read` (any microscope file to Frames), `datasets` (the HDF5 schema), `results` (HDF5 NXdata).

Imports nothing by itself.
"""
