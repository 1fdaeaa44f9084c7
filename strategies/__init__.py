"""Pure arithmetic of a decision: features, claims and their verification, belief, edge, sizing, calibration, scores."""
