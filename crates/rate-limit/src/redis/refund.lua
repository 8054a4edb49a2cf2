-- Reverts a charge of the cost of a request to all keys.
-- KEYS: the keys. Each stores its theoretical arrival time (TAT), in microseconds.
-- ARGV: the interval in microseconds, the burst and the cost, for each key.
-- Reply: empty.

local time = redis.call('TIME')
-- Counted from 2023, as in gcra.lua.
local now = (time[1] - 1672531200) * 1000000 + time[2]

for i, key in ipairs(KEYS) do
    local arrival = tonumber(redis.call('GET', key))
    -- A key that has expired has its whole quota.
    if arrival then
        arrival = arrival - tonumber(ARGV[3 * i - 2]) * tonumber(ARGV[3 * i])
        if arrival > now then
            redis.call('SET', key, string.format('%.3f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
        else
            redis.call('DEL', key)
        end
    end
end
return {}
