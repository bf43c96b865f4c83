"""The demo's image, so that the panel can be tried without any file."""

from respondcam.show.napari.layers import LayerData, image_layers


def phantoms() -> list[LayerData]:
    """Two phantoms in one box, which the model ``demo`` tells apart (normalize: zscore)."""
    from respondcam.cryoet.demo import demo_volume

    return image_layers(demo_volume(0), "phantoms")
