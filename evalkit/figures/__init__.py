"""What each figure shows, as values built from rows: matplotlib (plots/) and the page (report/) draw the same."""
