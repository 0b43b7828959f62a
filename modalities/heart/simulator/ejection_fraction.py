"""Ejection fractions in words."""

CLASSES = ((30.0, "severely reduced"), (40.0, "moderately reduced"), (50.0, "mildly reduced"), (101.0, "normal"))
"""Upper bounds of the classes of ejection fraction, in percent."""


def class_of(fraction: float) -> str:
    """Class of an ejection fraction in percent.

    Example:
        >>> class_of(29.9), class_of(40.0), class_of(62.0)
        ('severely reduced', 'mildly reduced', 'normal')
    """
    return next(name for below, name in CLASSES if fraction < below)


def sentence_of(fraction: float) -> str:
    """A sentence with the ejection fraction, used as text if there is no report.

    Example:
        >>> sentence_of(34.6)
        'Left ventricular ejection fraction is 35 percent, moderately reduced.'
    """
    return f"Left ventricular ejection fraction is {round(fraction)} percent, {class_of(fraction)}."
