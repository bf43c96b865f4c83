"""The model: its sources, its layers, the split forward pass, and where a layer's grid is."""
