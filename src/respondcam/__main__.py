"""``python -m respondcam``, where the command is not on the path."""

from respondcam.cli import main

if __name__ == "__main__":
    main()
