"""TIFF stacks and what SimpleITK writes, there and back."""

import numpy as np
import SimpleITK

import respondcam as rc

voxels = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
rc.write_volume("a.tif", rc.Volume(voxels, np.diag([2.0, 2, 3, 1]), "mm"))
np.testing.assert_array_equal(rc.read_volume("a.tif").voxels, voxels)
image = SimpleITK.GetImageFromArray(voxels)
image.SetSpacing((2, 2, 3))
for name in ("a.mha", "a.nrrd"):
    SimpleITK.WriteImage(image, name, useCompression=True)
    volume = rc.read_volume(name)
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(np.abs(np.diag(volume.affine)), [2, 2, 3, 1])
