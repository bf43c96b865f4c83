"""Cryo-electron tomography: densities, simulated subtomograms, the network of the demo."""

from respondcam.cryoet.crowding import crowded_boxes
from respondcam.cryoet.demo import DemoScene, demo_network, demo_scene, demo_volume
from respondcam.cryoet.densities import densities_from_folder, density_from_file
from respondcam.cryoet.imaging import CTF, Imaging, image_boxes
from respondcam.cryoet.phantoms import PHANTOMS, phantom
from respondcam.cryoet.poses import Poses, place_densities, random_poses, uniform_rotations
from respondcam.cryoet.subtomograms import Subtomograms, density_radius, simulate_subtomograms

__all__ = [
    "CTF",
    "PHANTOMS",
    "DemoScene",
    "Imaging",
    "Poses",
    "Subtomograms",
    "crowded_boxes",
    "demo_network",
    "demo_scene",
    "demo_volume",
    "densities_from_folder",
    "density_from_file",
    "density_radius",
    "image_boxes",
    "phantom",
    "place_densities",
    "random_poses",
    "simulate_subtomograms",
    "uniform_rotations",
]
