"""What follows from a run's records: metrics, figures, plots, pages, other tools' forms."""
