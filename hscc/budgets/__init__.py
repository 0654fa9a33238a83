"""What a network may cost: budgets, the resources they count (MACs, parameters, milliseconds), the latency table.

To add a resource, see `hscc.budgets.resources`.
"""
