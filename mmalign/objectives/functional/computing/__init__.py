"""How the equations are computed: tiles, rows of one process, stable sums."""
