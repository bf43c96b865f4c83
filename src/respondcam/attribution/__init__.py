"""The mathematics: methods, targets, explainers, the explanation and its score account."""

from respondcam.attribution import targets
from respondcam.attribution.account import ScoreAccount
from respondcam.attribution.channels import ChannelContributions, channel_contributions
from respondcam.attribution.explainer import Explainer
from respondcam.attribution.explanation import Explanation
from respondcam.attribution.grad import GradCAM
from respondcam.attribution.grad_plus_plus import GradCAMPlusPlus
from respondcam.attribution.hires import HiResCAM
from respondcam.attribution.integrated import IntegratedRespondCAM
from respondcam.attribution.layer import LayerCAM
from respondcam.attribution.methods import METHODS, explain
from respondcam.attribution.placing import place
from respondcam.attribution.respond import RespondCAM

__all__ = [
    "METHODS",
    "ChannelContributions",
    "Explainer",
    "Explanation",
    "GradCAM",
    "GradCAMPlusPlus",
    "HiResCAM",
    "IntegratedRespondCAM",
    "LayerCAM",
    "RespondCAM",
    "ScoreAccount",
    "channel_contributions",
    "explain",
    "place",
    "targets",
]
