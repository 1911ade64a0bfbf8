-- Submit tasks that share a plan, each of them wholly or not at all.
--
-- KEYS  1 policy  2 models  3 usage counters
--       4 task index  5 reservations  6 tasks on hold  7 delayed tasks  8 counts of waiting tasks
--       9 overflow queue  10 its wake list  11 its index
--       then for each ranked pool: facts, agents, in_flight, queue, its wake list, the overflow
--       queue of its own agent type, index of its queue
--       then for each task: its record, its idempotency key (the record again where none is given)
-- ARGV  1 version of the policy under which the plan was made  2 1 to return the models, else 0
--       3 ms after which a silent agent is dead  4 the plan, as JSON, kept with each task
--       5 request type  6 1 where the tasks may go to the one ranked pool and no other  7 number of
--       ranked pools  8 a rule for each of them, in the order of the keys:
--       name,base,per task,per load,1 where it is spillover of another agent type;...
--       9 max tasks that may wait in a queue for a slot, 10 of a tenant
--       11 agent type  12 limits of everything, 13 of the tenant, 14 of the agent type, see
--       parts/limits.lua  15 'wait' where a task that fits no model goes on hold, else it is refused
--       16 share of a limit of dollars from which on a cheaper model is taken  17 the other models,
--       as JSON, and the planned one: 18 model, 19 nano-dollars, 20 tokens, 21 its limits, 22 reason,
--       see parts/choice.lua  23 a tenant in place of tasks, '' for none
--       then for each task: id, message, tenant, seconds to keep the idempotency key (0 for
--       none), fingerprint of the request, when it may be queued: '' for now, +MS from now on, or
--       ms since 1970
-- Returns {version of the policy, ms since 1970, models, answers...}
--       version  of the current policy. Where it is not the plan's, there are no answers and
--                nothing was written: plan again
--       models   fields and values of the hash, nil where not requested
--       answers  {status, detail, counts} for each task. With a tenant in place of tasks there is
--                one answer for a task of that tenant as it would be placed, with its model and the
--                reason for that model, and nothing is written
--       status  'pool' (detail: the pool's name), 'overflow', 'duplicate' (detail: the first
--               task's id), 'conflict' (the key was used for another request; detail: its
--               task's id), 'no_agent', 'over' (a limit; detail: see parts/limits.lua), 'parked'
--               (the same, and the task is on hold until it may fit), 'delayed' (the task waits for
--               its time, see release_task.lua: only then are its cost and a live agent checked),
--               'busy' (too many tasks wait; detail: whose, how many wait and how many may)
--       A task id that exists already belongs to the same caller, who sent it again because the
--       first answer was lost. It gets that answer again and nothing is written.
--       counts  those of each pool, see parts/pool_counts.lua, with ; between
-- Moves   new -> queued, delayed, parked
--
-- Invariant: a pool never has more tasks in flight than its live agents have slots, unless
-- an agent leaves. A task whose submission returned is in its record and in one queue. A pool
-- takes tasks of another agent type only while nothing of its own waits. No task is overtaken: while
-- as many tasks wait in the overflow queue as there are free slots, a new one waits behind them.
-- The estimated cost of a task is held in every scope, or the task is not submitted: the sum of
-- settled and held amounts never passes a limit. No more tasks wait than may, of a tenant or in a
-- queue. Order for each task: refuse a duplicate, hold the money, take a slot, write. Nothing of a
-- task is written before the last reason to refuse it has been ruled out.

local policy, models, money = unpack(KEYS, 1, 3)
local version_of_plan, wants_models = unpack(ARGV, 1, 2)
local keys, arguments = KEYS, ARGV

-- include groups
-- include time
-- include queue_index
-- include moves
-- include health
-- include pool_counts
-- include windows
-- include usage_counters
-- include limits
-- include reservation
-- include choice
-- include on_hold
-- include wake
-- include placing

local version = redis.call('HGET', policy, 'version') or '0'
local facts = wants_models == '1' and redis.call('HGETALL', models)
if version ~= version_of_plan then
  return {version, now, facts}
end
local counters = open_counters(money)
local answers = place_tasks(keys, arguments, counters)
close_counters(counters)
return {version, now, facts, unpack(answers)}
