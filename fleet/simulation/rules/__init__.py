"""A fleet simulated event by event, with the functions that the real fleet uses.

Each producer ranks the pools from its own snapshot (`rank`, `advance`), which has a maximum age.
The exact pool counts are added when a task is placed (`pick`, which is `decide` without the
reasons). Outcomes are counted as Redis counts them (`counted`) and reach the producers with their
next snapshot. A bad strategy is therefore bad here too, by the same code.

Simplifications: tasks do not crash their workers, pools neither grow nor shrink, and Redis takes
no time, except for a `handover` between a free slot and the start of its next run.

    workload    the tasks: arrival, kind and amount of work
    pools       the pools: slots, speed, success, and what is known of them at a moment
    health      how a pool is ejected, and how it returns
    producers   snapshots, rankings cached until the snapshot changes, turns
    binding     where a task goes: late binding as submit.lua does it, or a push by snapshot alone
    events      the loop
    outcomes    the outcomes of the tasks, as columns and as figures
    central     the ideal for comparison: one queue for all slots
    replay      recorded tasks as a workload, and pools estimated from the record

All functions are pure. Times are seconds from the start; the random generator is an argument.
"""
