"""What a load test found, for people: lines in a terminal, and one page that needs nothing but itself."""
