"""What ``vimdeploy verify`` found, as one HTML page that needs no other file.

The templates write the plots as SVG. Horizontal positions are percentages and font sizes are pixels, so a plot fits a
phone and its text stays readable; colours follow the page's light or dark scheme, and every point has its name and
numbers as a tooltip. A plotting library would draw for one width and one background, and be one more dependency.
"""
