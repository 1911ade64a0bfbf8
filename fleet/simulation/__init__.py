"""`fleet simulate`: the same tasks in several simulated fleets, compared with what happened.

    record      recorded tasks, from Redis or a file
    source      the tasks to simulate: recorded, or random
    what_if     one possible fleet: its pools, routes and models
    report      the result of each fleet, what was measured and what is assumed
    run         the simulation, from the request to the report
"""
