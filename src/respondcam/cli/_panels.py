"""The headings under which a command with many options lists them in its help."""

NETWORK = "The network"
WHAT = "What to explain"
PARTICLES = "Which particles"
IMAGING = "How they are imaged"
TRAINING = "How it is trained"
GOES_IN = "What goes in"
MEASURED = "What is measured"
FIGURES = "Figures and pages"
WINDOWS = "Whole tomograms and scans (--window)"
RUNS = "Runs and results"

ORDER = (
    *(NETWORK, WHAT, PARTICLES, IMAGING, TRAINING),
    *(GOES_IN, MEASURED, FIGURES, WINDOWS, RUNS),
)
MOST_IN_ONE = 16  # options that are listed without headings, --help among them
