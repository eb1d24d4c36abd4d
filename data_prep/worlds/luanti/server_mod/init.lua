-- Moves the player one action at a time, as told through a pipe; the server stands still in between.
--
-- In:  "reset SEED" or "forward back jump turn"; end of file ends the server.
-- Out: "t x y z yaw" when the client shows that pose, t counting from the reset; or "error MESSAGE".
-- Positions are those of the feet, in nodes; yaw in degrees, clockwise seen from above, 0 along +z.

local insecure = minetest.request_insecure_environment()
if not insecure then
	error("raddrv has to be in secure.trusted_mods")
end

-- The kinematics of Minecraft at 20 steps per second, in nodes per step; as data_prep/voxel/motion.py has them.
local STEPS_PER_SECOND = 20
local TURN = 20
local WALK = 4.317 / STEPS_PER_SECOND
local GRAVITY = 32 / STEPS_PER_SECOND ^ 2
local JUMP = 8.4 / STEPS_PER_SECOND
local FASTEST_FALL = 0.9
local HALF_WIDTH, BODY = 0.3, 1.8
local GROUND, SKIN = 0.05, 1e-3

local SPREAD = 2000 -- nodes from the origin within which walks begin
local MARGIN, BELOW, ABOVE = 96, 32, 48 -- nodes around the start that are there before a walk begins
local PLACES = 500 -- that are tried for one seed
local WARM = 8 -- seconds for the terrain to reach the client

local pipe_in, pipe_out
local player
local channel = minetest.mod_channel_join("rad")
local state = "boot" -- boot -> command -> (emerging -> warming ->) showing -> command ...
local time_left = 0
local count = 0
local x, y, z, yaw, rising = 0, 0, 0, 0, 0

local function say(line)
	pipe_out:write(line, "\n")
	pipe_out:flush()
end

local function is_obstacle(px, py, pz)
	local node = minetest.get_node({x = math.floor(px + 0.5), y = math.floor(py + 0.5), z = math.floor(pz + 0.5)})
	local definition = minetest.registered_nodes[node.name]
	return definition == nil or definition.walkable or node.name == "ignore"
end

local function touches(px, py, pz, heights)
	for _, height in ipairs(heights) do
		for side_x = -1, 1, 2 do
			for side_z = -1, 1, 2 do
				if is_obstacle(px + side_x * HALF_WIDTH, py + height, pz + side_z * HALF_WIDTH) then
					return true
				end
			end
		end
	end
	return false
end

local BODY_HEIGHTS = {SKIN, BODY / 2, BODY - SKIN}
local GROUND_HEIGHTS = {-GROUND}

local function fits(px, py, pz)
	return not touches(px, py, pz, BODY_HEIGHTS)
end

-- The top of the node that holds a height: nodes reach half a node up and down from whole numbers.
local function top_of(height)
	return math.floor(height + 0.5) + 0.5
end

-- Along one axis; up a step of one node if that is all that is in the way.
local function walk(dx, dz, standing)
	if fits(x + dx, y, z + dz) then
		x, z = x + dx, z + dz
		return
	end
	local up = top_of(y + SKIN)
	if standing and fits(x, up, z) and fits(x + dx, up, z + dz) then
		x, y, z = x + dx, up, z + dz
	end
end

local function fall()
	if fits(x, y + rising, z) then
		y = y + rising
	elseif rising > 0 then
		y, rising = top_of(y + rising + BODY) - 1 - BODY, 0
	else
		y, rising = top_of(y + rising), 0
	end
end

local function move(forward, back, jump, turn)
	local standing = rising <= 0 and touches(x, y, z, GROUND_HEIGHTS)
	yaw = (yaw + TURN * turn + 180) % 360 - 180
	if standing and jump == 1 then
		rising = JUMP
	else
		rising = math.max(rising - GRAVITY, -FASTEST_FALL)
	end
	local distance, heading = WALK * (forward - back), math.rad(yaw)
	walk(distance * math.sin(heading), 0, standing) -- z points north here: the mirror image of Minecraft
	walk(0, distance * math.cos(heading), standing)
	fall()
end

local function show()
	player:set_pos({x = x, y = y, z = z})
	player:set_look_horizontal(math.rad(-yaw)) -- counter-clockwise in the engine
	player:set_look_vertical(0)
	channel:send_all(string.format("%d %.6f %.6f %.6f %.6f", count, x, y, z, yaw))
	state = "showing"
end

local function begin_walk(place_x, place_z, level)
	minetest.load_area(
		{x = place_x - 1, y = level - BELOW, z = place_z - 1},
		{x = place_x + 1, y = level + ABOVE, z = place_z + 1})
	x, y, z, rising, count = place_x, level - 0.5, place_z, 0, 0
	for _ = 1, ABOVE do
		if fits(x, y, z) then
			break
		end
		y = y + 1
	end
	if not fits(x, y, z) then
		return false
	end
	-- Down to the ground: a walk begins standing.
	for _ = 1, BELOW do
		if touches(x, y, z, GROUND_HEIGHTS) then
			break
		end
		y = y - 1
	end
	if not fits(x, y, z) then
		y = y + 1
	end
	player:set_pos({x = x, y = y, z = z})
	state, time_left = "warming", WARM
	return true
end

local function find_place(random, places_left)
	if places_left == 0 then
		say("error no place to stand for this seed")
		state = "command"
		return
	end
	local place_x, place_z = random:next(-SPREAD, SPREAD), random:next(-SPREAD, SPREAD)
	local level = minetest.get_spawn_level(place_x, place_z)
	if not level then
		return find_place(random, places_left - 1)
	end
	yaw = random:next(0, 359) - 180
	state = "emerging"
	local low = {x = place_x - MARGIN, y = level - BELOW, z = place_z - MARGIN}
	local high = {x = place_x + MARGIN, y = level + ABOVE, z = place_z + MARGIN}
	minetest.emerge_area(low, high, function(_, _, blocks_left)
		if blocks_left == 0 and not begin_walk(place_x, place_z, level) then
			find_place(random, places_left - 1)
		end
	end)
end

local function obey(line)
	local seed = line:match("^reset (%d+)$")
	if seed then
		return find_place(PcgRandom(tonumber(seed)), PLACES)
	end
	local forward, back, jump, turn = line:match("^([01]) ([01]) ([01]) (-?[01])$")
	if not forward then
		say("error not understood: " .. line)
		return
	end
	count = count + 1
	move(tonumber(forward), tonumber(back), tonumber(jump), tonumber(turn))
	show()
end

minetest.register_globalstep(function(seconds)
	if state == "warming" then
		time_left = time_left - seconds
		if time_left <= 0 then
			show()
		end
	elseif state == "command" then
		local line = pipe_in:read("*l") -- blocks: the whole server waits for the next action
		if line then
			obey(line)
		else
			state = "ending"
			minetest.request_shutdown()
		end
	end
end)

minetest.register_on_modchannel_message(function(name, _, message)
	if name ~= "rad" then
		return
	end
	if message == "hello" and state == "boot" then
		pipe_in = insecure.io.open(insecure.os.getenv("RAD_IN"), "r")
		pipe_out = insecure.io.open(insecure.os.getenv("RAD_OUT"), "w")
		state = "command"
	elseif state == "showing" and message == tostring(count) then
		state = "command"
		say(string.format("%d %.6f %.6f %.6f %.6f", count, x, y, z, yaw))
	elseif state == "showing" and message == "late " .. count then
		state = "command"
		say("error the client did not show step " .. count)
	end
end)

minetest.register_on_joinplayer(function(joined)
	player = joined
	player:hud_set_flags({
		hotbar = false, healthbar = false, crosshair = false, wielditem = false,
		breathbar = false, minimap = false, minimap_radar = false,
	})
	player:set_physics_override({gravity = 0, speed = 0, jump = 0})
	player:set_armor_groups({immortal = 1})
	minetest.set_timeofday(0.5)
end)

minetest.override_item("", {range = 0}) -- nothing is pointed at: no selection box

-- Water, lava and torches keep their first picture: one action's frame may not depend on when it is drawn.
local function stilled(tiles)
	local copy = {}
	for number, tile in pairs(tiles or {}) do
		copy[number] = tile
		if type(tile) == "table" and tile.animation then
			copy[number] = table.copy(tile)
			copy[number].animation.length = 1e6 -- seconds
			copy[number].animation.frame_length = 1e6
		end
	end
	return copy
end

minetest.register_on_mods_loaded(function()
	for name, definition in pairs(minetest.registered_nodes) do
		minetest.override_item(name, {
			tiles = stilled(definition.tiles),
			special_tiles = stilled(definition.special_tiles),
		})
	end
end)
