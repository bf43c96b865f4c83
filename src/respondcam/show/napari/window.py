"""Rows of fields in Qt, by name; and Qt itself, or one line that says what to install."""

from collections.abc import Callable, Sequence
from typing import Any

from respondcam._extras import require
from respondcam.errors import MissingExtraError


def bring_qt() -> None:
    """Import qtpy, with whatever Qt is installed.

    Raises
    ------
    MissingExtraError
        If napari or Qt is not installed.
    """
    require("napari", extra="napari", purpose="show volumes and maps in its viewer")
    try:
        import qtpy.QtWidgets  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:  # qtpy's own errors are of this kind too
        why = " ".join(str(error).split()) or type(error).__name__
        raise MissingExtraError(
            f"napari draws with Qt, which cannot be loaded ({why}). Install it with: "
            f"pip install 'napari[pyqt6]'",
            name="qtpy",
        ) from error


bring_qt()
from qtpy.QtCore import Qt  # noqa: E402  (what is missing is said first)
from qtpy.QtWidgets import (  # noqa: E402
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QToolButton,
    QWidget,
)


class Form(QWidget):
    """Fields and buttons under names, one below the other.

    Parameters
    ----------
    parent
        What it is part of.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows = QFormLayout(self)
        self.rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.fields: dict[str, Any] = {}

    def text(self, name: str, title: str, value: str = "", *, tip: str = "") -> None:
        """Add a line to type in."""
        self._add(name, title, QLineEdit(value), tip)

    def file(self, name: str, title: str, *, tip: str = "") -> None:
        """Add a line for a file's path, with a button that asks for one."""
        line, button, row = QLineEdit(), QToolButton(), QWidget()
        button.setText("...")
        button.setToolTip(f"{title}: choose a file")

        def choose() -> None:
            path, _ = QFileDialog.getOpenFileName(self, title)
            if path:
                line.setText(path)

        button.clicked.connect(choose)
        both = QHBoxLayout(row)
        both.setContentsMargins(0, 0, 0, 0)
        both.addWidget(line)
        both.addWidget(button)
        line.setToolTip(tip)
        self.fields[name] = line
        self.rows.addRow(title, row)

    def tick(self, name: str, title: str) -> None:
        """Add a box to tick."""
        self._add(name, "", QCheckBox(title), "")

    def choice(
        self,
        name: str,
        title: str,
        items: Sequence[str] = (),
        *,
        free: bool = False,
        tip: str = "",
        tips: Sequence[str] = (),
    ) -> None:
        """Add a list to choose from; with `free` anything else may be typed."""
        box = QComboBox()
        box.setEditable(free)
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(12)
        self._add(name, title, box, tip)
        self.offer(name, items, tips)

    def button(self, name: str, title: str, act: Callable[[], None]) -> None:
        """Add a button."""
        button = QPushButton(title)
        button.clicked.connect(lambda: act())
        self._add(name, "", button, "")

    def busy_bar(self) -> None:
        """Add a bar that moves while something is running."""
        bar = QProgressBar()
        bar.setRange(0, 0)
        self._add("bar", "", bar, "")

    def status(self) -> None:
        """Add a text that can be selected and copied."""
        label = QLabel()
        label.setWordWrap(True)
        label.setTextFormat(Qt.TextFormat.PlainText)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.fields["status"] = label
        self.rows.addRow(label)

    def offer(
        self, name: str, items: Sequence[str], tips: Sequence[str] = (), *, last: bool = False
    ) -> None:
        """Fill a list anew; what was chosen stays if it is there (or was typed)."""
        box = self.fields[name]
        chosen = box.currentText()
        box.clear()
        box.addItems(list(items))
        for index, tip in enumerate(tips):
            box.setItemData(index, tip, Qt.ItemDataRole.ToolTipRole)
        if chosen in items or (box.isEditable() and chosen):
            box.setCurrentText(chosen)
        elif last and items:
            box.setCurrentIndex(len(items) - 1)

    def value(self, name: str) -> str:
        """Text of a field."""
        field = self.fields[name]
        return field.currentText() if isinstance(field, QComboBox) else field.text()

    def ticked(self, name: str) -> bool:
        """Whether a box is ticked."""
        return self.fields[name].isChecked()

    def set(self, name: str, value: str) -> None:
        """Write into a field, or choose from a list."""
        field = self.fields[name]
        (field.setCurrentText if isinstance(field, QComboBox) else field.setText)(value)

    def say(self, text: str) -> None:
        """Show a text below the fields."""
        self.fields["status"].setText(text)

    @property
    def said(self) -> str:
        """What is shown below the fields."""
        return self.fields["status"].text()

    def busy(self, busy: bool) -> None:
        """Show whether something is running."""
        self.fields["bar"].setVisible(busy)
        self.fields["cancel"].setEnabled(busy)
        for name in ("explain", "look"):
            self.fields[name].setEnabled(not busy)

    def _add(self, name: str, title: str, field: QWidget, tip: str) -> None:
        field.setToolTip(tip)
        self.fields[name] = field
        self.rows.addRow(title, field)
