"""What the harnesses that run cases on a bare MPC750 share."""
