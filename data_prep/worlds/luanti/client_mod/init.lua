-- Tells the server when a pose is on the screen, so that the frame that is read then belongs to it.

local FRAMES = 2 -- consecutive frames in which the camera has to be there: the first may still be drawn
local GIVE_UP = 200 -- frames
local NEAR, ALIGNED = 0.02, 0.01 -- nodes, radians
local RETRY = 1 -- seconds; a request to join that comes too early is dropped without an answer

local channel = minetest.mod_channel_join("rad")
local greeted, waited = false, 0
local wanted, matching, seen = nil, 0, 0

minetest.register_on_modchannel_message(function(name, _, message)
	if name ~= "rad" then
		return
	end
	local count, x, y, z, yaw = message:match("^(%d+) (%S+) (%S+) (%S+) (%S+)$")
	if count then
		wanted = {count = count, x = tonumber(x), y = tonumber(y), z = tonumber(z), yaw = -math.rad(tonumber(yaw))}
		matching, seen = 0, 0
	end
end)

local function is_shown(pose)
	local player, camera = minetest.localplayer, minetest.camera
	if not player or not camera then
		return false
	end
	local position = player:get_pos()
	local away = math.abs(position.x - pose.x) + math.abs(position.y - pose.y) + math.abs(position.z - pose.z)
	local turned = (camera:get_look_horizontal() - math.pi / 2 - pose.yaw + math.pi) % (2 * math.pi) - math.pi
	return away < NEAR and math.abs(turned) < ALIGNED
end

minetest.register_globalstep(function(seconds)
	if not greeted then
		if channel:is_writeable() then
			channel:send_all("hello")
			greeted = true
		else
			waited = waited + seconds
			if waited > RETRY then
				waited = 0
				channel:leave()
				channel = minetest.mod_channel_join("rad")
			end
		end
		return
	end
	if not wanted then
		return
	end
	seen = seen + 1
	matching = is_shown(wanted) and matching + 1 or 0
	if matching >= FRAMES then
		channel:send_all(tostring(wanted.count))
		wanted = nil
	elseif seen > GIVE_UP then
		channel:send_all("late " .. wanted.count)
		wanted = nil
	end
end)

-- Nothing is drawn over the picture.
minetest.register_on_receiving_chat_message(function()
	return true
end)
