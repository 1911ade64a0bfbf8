"""What would happen: a fleet simulated event by event, with the functions that the real one uses.

Producers rank the pools from a snapshot of their own (`rank`, `advance`), which is up to an age
old. The exact loads are added when a task is placed (`pick`, which is `decide` without the account
of why). Outcomes are counted as Redis counts them (`counted`), and come back to the producers with
their next snapshot. So a strategy that is bad for the fleet is bad here too, by the same code.

What is simplified: tasks do not crash their workers, pools neither grow nor shrink, and Redis takes
no time, but for a `handover` between a free slot and the start of its next run.

    workload    the tasks: when they arrive, what they ask for, how much work they are
    crew        the pools: slots, speed, success, and what is known of them at a moment
    health      how a pool is taken out, and how it comes back
    producers   snapshots, rankings that are kept until the snapshot changes, turns
    binding     where a task goes: late binding as submit.lua does it, or a push by snapshot alone
    events      the loop
    outcomes    what became of the tasks, as columns and as figures
    central     the ideal to compare with: one queue before all slots
    replay      recorded tasks as a workload, and the pools as the record shows them

All is pure: times are seconds from the beginning, and dice come as an argument.
"""
