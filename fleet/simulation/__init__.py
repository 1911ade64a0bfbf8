"""`fleet simulate`: the same tasks under one fleet and another, beside what happened.

    record      recorded tasks, from Redis or a file
    source      the tasks to simulate: a record, or a load drawn by lot
    what_if     one way that the fleet might be: pools, routes, models
    report      what each made of the tasks, what was measured and what is assumed
    run         what is asked, from its parts to the report
"""
