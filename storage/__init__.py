"""Memory: schema and migrations, decision log, price history, answers, ticks. The only folder that speaks SQL."""
