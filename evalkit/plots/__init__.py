"""The plots of a run: one module a plot, `drawing.draw_plots` for all of them."""
