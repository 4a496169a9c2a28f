"""What products of experts, and products in fewer bits than 16, reach of the peaks of each GPU that has published tables.

Read first: `efficiencies.py`.
"""
