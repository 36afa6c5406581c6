"""One HTML file about a trained model: `python -m imgcls.report`.

results.py reads what the model answers, tables.py and charts.py show it as numbers and curves,
gallery.py as pictures; `templates/report.html` lays them out.
"""
