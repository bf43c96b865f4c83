"""Names of all methods with what each does in a few words, without importing any of them."""

METHOD_SUMMARIES = {
    "respond": "the paper's; sums to the score of a linear head",
    "integrated-respond": "its sum is the score's rise for every head",
    "grad": "Grad-CAM",
    "grad++": "Grad-CAM++",
    "hires": "HiResCAM",
    "layer": "LayerCAM",
    "ablation": "Ablation-CAM",
    "score": "Score-CAM",
    "eigen": "Eigen-CAM, the same for every class",
    "refine": "RefineCAM, several layers",
    "tubes": "Saliency Tubes, for a pooled linear head",
    "integrated-gradients": "on the input, by captum",
    "occlusion": "on the input, by captum",
    "guided-backprop": "on the input, by captum",
}

BLIND = ("eigen",)
"""The methods that do not look at the score: nothing in their maps raises or lowers it."""

ON_INPUT = ("integrated-gradients", "occlusion", "guided-backprop")
"""The methods that explain the input whatever the layer."""
