"""Pictures of what the attention looks at."""


def confusion(matrix, classes):
    from matplotlib.figure import Figure

    return Figure()
