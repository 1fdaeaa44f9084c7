"""The composition root: the only place that knows which clock, feed, engine and exchange a run is made of."""
