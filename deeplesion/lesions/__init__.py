"""From boxes in slices to lesions in 3D, measured and written down."""
