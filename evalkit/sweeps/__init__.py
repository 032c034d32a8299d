"""Many trainings as one question: points of a space as trials, run anywhere, compared at equal rate."""
