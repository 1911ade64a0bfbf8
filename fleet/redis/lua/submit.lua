-- Submit tasks that share a plan, each of them wholly or not at all.
--
-- KEYS  1 task index  2 overflow queue  3 its wake list  4 policy  5 models  6 money
--       7 reservations  8 parked tasks  9 delayed tasks  10 line of the overflow queue
--       11 how many tasks wait
--       then for each ranked pool: facts, agents, in_flight, queue, its wake list, the overflow
--       queue of its own agent type, line of its queue
--       then for each task: its record, its idempotency key (the record again where none is given)
-- ARGV  1 ms after which a silent agent is dead  2 the plan, as JSON, kept with each task
--       3 how many pools are ranked  4 a rule for each of them, in the order of the keys:
--       name,base,per task,per load,1 where it helps another agent type;...
--       5 request type  6 version of the policy that the plan was made under  7 1 to be told
--       of the models, else 0  8 1 where the tasks may go to the one ranked pool and no other
--       9 agent type  10 limits of everything, 11 of the tenant, 12 of the agent type, see
--       parts/limits.lua  13 what becomes of a task that fits no model: 'wait', or else it is refused
--       14 share of a limit of dollars from which on a cheaper model is taken  15 to 20 the models
--       to choose from, see parts/choice.lua  21 most tasks that may wait in a queue for a slot,
--       22 of a tenant
--       then for each task: id, message, tenant, seconds to keep the idempotency key (0 for
--       none), fingerprint of the request, when it may be queued: '' for now, +MS from now on, or
--       ms since 1970
-- Returns {version of the policy, ms since 1970, models, answers...}
--       version  of the policy in force. Where it is not the plan's, there are no answers and
--                nothing was written: plan again
--       models   fields and values of the hash, nil where not asked for
--       answers  {status, detail, loads} for each task; with a tenant in place of tasks one for a
--                task of that tenant as it would be placed, with its model and why that one, and
--                nothing is written:
--       status  'pool' (detail: the pool's name), 'overflow', 'duplicate' (detail: the first
--               task's id), 'conflict' (the key was used for another request; detail: its
--               task's id), 'no_agent', 'over' (a limit; detail: see parts/limits.lua), 'parked'
--               (the same, and it waits for when it may fit), 'delayed' (it waits for its time, see
--               unpark.lua: whether its money fits and an agent is alive is asked then), 'busy' (as
--               many tasks wait as may; detail: of whom, how many wait and how many may)
--       A task id that is there already is the caller's own, sent again because the first
--       answer was lost: it gets that answer again and nothing is written.
--       loads   one row a pool, see parts/row.lua
-- Moves   new -> queued, delayed, parked
--
-- Invariant: a pool never has more tasks in flight than its live agents have slots, unless
-- an agent leaves; a task whose submission returned is in its record and in one queue. A pool
-- helps another agent type only while nothing of its own waits. Nobody is overtaken: while as
-- many tasks wait in the overflow queue as there are free slots, a new one waits behind them.
-- What a task is thought to cost is held in every scope, or it is not submitted: what is settled
-- and held never passes a limit. No more tasks wait than may, of a tenant or in a queue. Order for
-- each task: refuse a duplicate, hold the money, take a slot, write. Nothing of it is written before
-- the last reason to refuse has been ruled out.

-- include time
-- include line
-- include moves
-- include health
-- include row
-- include windows
-- include book
-- include limits
-- include reservation
-- include choice
-- include parked
-- include wake
-- include placing

local version = redis.call('HGET', KEYS[4], 'version') or '0'
local models = ARGV[7] == '1' and redis.call('HGETALL', KEYS[5])
if version ~= ARGV[6] then
  return {version, now, models}
end
local book = open_book(KEYS[6])
local answers = place_tasks(KEYS, ARGV, book)
close_book(book)
return {version, now, models, unpack(answers)}
