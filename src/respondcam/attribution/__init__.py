"""The mathematics: methods, targets, explainers, the explanation and its score account."""

from respondcam.attribution import targets
from respondcam.attribution.ablation import AblationCAM
from respondcam.attribution.account import ScoreAccount
from respondcam.attribution.baseline import activation_of
from respondcam.attribution.channels import ChannelContributions, channel_contributions
from respondcam.attribution.eigen import EigenCAM
from respondcam.attribution.explainer import Explainer
from respondcam.attribution.explanation import Explanation
from respondcam.attribution.fusing import fuse
from respondcam.attribution.grad import GradCAM
from respondcam.attribution.grad_plus_plus import GradCAMPlusPlus
from respondcam.attribution.guided_backprop import GuidedBackprop
from respondcam.attribution.hires import HiResCAM
from respondcam.attribution.integrated import IntegratedRespondCAM
from respondcam.attribution.integrated_gradients import IntegratedGradients
from respondcam.attribution.layer import LayerCAM
from respondcam.attribution.methods import METHODS, explain
from respondcam.attribution.occlusion import Occlusion
from respondcam.attribution.placing import place
from respondcam.attribution.refine import RefineCAM
from respondcam.attribution.respond import RespondCAM
from respondcam.attribution.score import ScoreCAM
from respondcam.attribution.tubes import SaliencyTubes

__all__ = [
    "METHODS",
    "AblationCAM",
    "ChannelContributions",
    "EigenCAM",
    "Explainer",
    "Explanation",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "HiResCAM",
    "IntegratedGradients",
    "IntegratedRespondCAM",
    "LayerCAM",
    "Occlusion",
    "RefineCAM",
    "RespondCAM",
    "SaliencyTubes",
    "ScoreAccount",
    "ScoreCAM",
    "activation_of",
    "channel_contributions",
    "explain",
    "fuse",
    "place",
    "targets",
]
