"""What ``vimdeploy verify`` found, as one HTML page that needs nothing but itself.

Plots are SVG of our own: places across are percentages and letters have their size in pixels, so a plot fits a phone
without its letters shrinking, its colours follow the page's light and dark, and every point carries its name and
numbers. A plotting library draws for one width and one background, and would be a package more for every ``verify``.
"""
