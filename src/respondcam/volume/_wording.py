"""Words that several readers share."""

IMAGES = "Images are explained in Python, as a tensor (batch, channel, y, x)"
