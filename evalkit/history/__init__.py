"""Published results as a history: a store that git can hold, and the static site that is built from it."""
