"""The vocabulary: values, order book, events, errors, clock, fees and rules by date, the feed port."""
