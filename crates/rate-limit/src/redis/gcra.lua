-- One GCRA for each key: all of them are charged, or none.
-- KEYS: what holds each theoretical arrival time (TAT), in microseconds.
-- ARGV: for each key the interval in microseconds, the burst, and the cost.
-- Answer: for each key 1 and what remains, or 0 and the microseconds to wait.

local ROUNDING = 0.1
local time = redis.call('TIME')
-- From 2023 on, so that a double holds fractions of microseconds.
local now = (time[1] - 1672531200) * 1000000 + time[2]

local before, after, answer = {}, {}, {}
local passes = true
for i, key in ipairs(KEYS) do
    local interval, burst, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
    local full = now + interval * burst
    -- No clock that was set back, and no larger quota of before, makes anyone wait for longer than a whole burst takes.
    before[i] = math.min(math.max(tonumber(redis.call('GET', key)) or now, now), full)
    after[i] = before[i] + interval * cost
    passes = passes and after[i] - full < ROUNDING
end

for i, key in ipairs(KEYS) do
    local interval, burst = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
    local full = now + interval * burst
    local over = after[i] - full
    if over < ROUNDING then
        local arrival = before[i]
        if passes then
            arrival = after[i]
            -- Whoever has the whole quota again is forgotten.
            redis.call('SET', key, string.format('%.3f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
        end
        answer[2 * i - 1] = 1
        answer[2 * i] = math.floor((full - arrival + ROUNDING) / interval)
    else
        answer[2 * i - 1] = 0
        answer[2 * i] = math.ceil(over)
    end
end
return answer
