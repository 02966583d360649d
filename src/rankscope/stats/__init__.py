"""Statistics: means with intervals, families of paired differences, retention, the choice of a learning rate, cost."""
