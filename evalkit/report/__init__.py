"""`evalkit report`: one or several finished runs as one page that needs nothing but itself."""
