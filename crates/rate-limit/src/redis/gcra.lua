-- Charges the cost of a request to all keys by GCRA, or to none if one of them exceeds its quota.
-- KEYS: the keys. Each stores its theoretical arrival time (TAT), in microseconds.
-- ARGV: the interval in microseconds, the burst and the cost, for each key.
-- Reply: 1 and the remaining requests, or 0 and the microseconds to wait, for each key.

local ROUNDING = 0.1
local time = redis.call('TIME')
-- Counted from 2023, so that a double has room for fractions of microseconds.
local now = (time[1] - 1672531200) * 1000000 + time[2]

local before, after, reply = {}, {}, {}
local is_allowed = true
for i, key in ipairs(KEYS) do
    local interval, burst, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
    local full = now + interval * burst
    -- Limits the wait to one whole burst, even if the clock was set back or the quota was larger before.
    before[i] = math.min(math.max(tonumber(redis.call('GET', key)) or now, now), full)
    after[i] = before[i] + interval * cost
    is_allowed = is_allowed and after[i] - full < ROUNDING
end

for i, key in ipairs(KEYS) do
    local interval, burst = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
    local full = now + interval * burst
    local over = after[i] - full
    if over < ROUNDING then
        local arrival = before[i]
        if is_allowed then
            arrival = after[i]
            -- The key expires when it has its whole quota again.
            redis.call('SET', key, string.format('%.3f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
        end
        reply[2 * i - 1] = 1
        reply[2 * i] = math.floor((full - arrival + ROUNDING) / interval)
    else
        reply[2 * i - 1] = 0
        reply[2 * i] = math.ceil(over)
    end
end
return reply
