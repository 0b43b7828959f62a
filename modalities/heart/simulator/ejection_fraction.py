"""Ejection fractions in words."""

CLASSES = ((30.0, "severely reduced"), (40.0, "moderately reduced"), (50.0, "mildly reduced"), (101.0, "normal"))
"""Percentages below which a left ventricle is called that."""


def class_of(fraction: float) -> str:
    """The word for an ejection fraction in percent.

    Example:
        >>> class_of(29.9), class_of(40.0), class_of(62.0)
        ('severely reduced', 'mildly reduced', 'normal')
    """
    return next(name for below, name in CLASSES if fraction < below)


def sentence_of(fraction: float) -> str:
    """The sentence that stands for a measurement where no report is given.

    Example:
        >>> sentence_of(34.6)
        'Left ventricular ejection fraction is 35 percent, moderately reduced.'
    """
    return f"Left ventricular ejection fraction is {round(fraction)} percent, {class_of(fraction)}."
