"""The system card: thresholds, classification, the safeguards it switches on, and the card that is written of them."""
