"""File formats of images: pictures, DICOM, NIfTI and NumPy archives, one module each.

To add one, write a subclass of `hscc.pipeline.data.formats.base.Format` in a module of its own and name it in
`hscc.pipeline.data.formats.known.FORMATS`.
"""
