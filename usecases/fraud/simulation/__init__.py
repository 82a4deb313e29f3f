"""The world of card payments, as the fraud-detection handbook describes it: people, payments, fraud."""
