"""The explorer: a page on which people shape a policy and see what it does. See `nsf explore`.

`app` is the page, a marimo notebook; what it shows is computed and drawn by the modules beside it.
"""
