class Preprocessor:
    """Official observation and infos to what the policy's module reads.

    Output (n, obs + 24), float32: the observation of the last control step (held in between),
    then joint positions and velocities now; and for a policy that sees its previous action two
    more numbers, 1 in an episode's first step and 1 in a control step.
    """

    FEATURES: tuple = ()
    PARTS: tuple = ()  # of the observation: names of infos, or functions of frame and clock
    GAIT_FREQUENCY = 1.5
    DECIMATION = 10

    def __init__(self):
        self.steps = np.zeros(0, np.int64)
        self.held = np.zeros((0, 0), np.float32)

    def modify_state(self, obs, info):
        """Called once before every step of 2 ms."""
        obs = np.atleast_2d(np.asarray(obs))
        # Joints spawn at exactly 0, at rest, and are never again at exactly 0.
        first = (obs[:, :24] == 0).all(axis=1)
        if len(self.steps) != len(obs):  # another batch of episodes
            first[:] = True
        self.steps = np.zeros_like(first, np.int64) if first.all() else self.steps + 1
        self.steps = np.where(first, 0, self.steps)
        acts = self.steps % self.DECIMATION == 0
        if acts.all():
            self.held = self.observe(obs, info)
        elif acts.any():
            self.held = np.where(acts[:, None], self.observe(obs, info), self.held)
        parts = [self.held, obs[:, :24]]
        if "previous_action" in self.FEATURES:
            parts += [first[:, None], acts[:, None]]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def observe(self, obs, info):
        """The policy's observation, float32 (n, size)."""
        n = len(obs)

        def told(name):
            return np.asarray(info[name]).reshape(n, -1)

        tasks = told("task_index").shape[1]
        if tasks != 3:
            raise ValueError(
                f"task_index has {tasks} numbers, expected 3: this policy plays the three tasks "
                "of the competition (totalTaskCount=3)"
            )
        frame = self.frame(obs, told)
        # The policy's module fills in the previous action.
        clock = Given(
            phase=gait_phase(self.steps, self.GAIT_FREQUENCY),
            previous_action=np.zeros((n, 12)),
            time_left=remaining(self.steps),
        )
        parts = [told(part) if isinstance(part, str) else part(frame, clock) for part in self.PARTS]
        return np.concatenate([np.asarray(part, np.float32) for part in parts], axis=1)

    def frame(self, obs, told):
        """What infos give of the rules' frame, (n, ...) in the world's axes."""
        south = np.array([-game.FIELD_HALF_LENGTH, 0.0, 0.0])
        imu, ball = south - told("goal_team_0_rel_robot"), south - told("goal_team_0_rel_ball")
        root = self.root_velocity(told)
        seen = [f"goalkeeper_team_{team}_" + "{}_rel_robot" for team in (0, 1)]
        return Given(
            task=told("task_index").argmax(axis=1),
            joint_pos=obs[:, :12],
            joint_vel=obs[:, 12:24],
            imu_pos=imu,
            imu_quat=told("robot_quat")[:, [3, 0, 1, 2]].astype(np.float32).astype(np.float64),
            gyro=told("robot_gyro"),
            accelerometer=told("robot_accelerometer"),
            velocimeter=told("robot_velocimeter"),
            root_vel=root,
            ball_pos=ball,
            ball_vel=told("ball_velp_rel_robot") + root,
            keeper_pos=np.stack([imu + told(name.format("xpos")) for name in seen], axis=1),
            keeper_vel=np.stack([root + told(name.format("velp")) for name in seen], axis=1),
            target_pos=imu + told("target_xpos_rel_robot"),
            target_vel=root + told("target_velp_rel_robot"),
            defender_pos=told("defender_xpos").reshape(-1, 3, 3),
        )

    def root_velocity(self, told):
        """The robot's (n, 3) m/s, which infos tell of nothing but by what stands still."""
        quat = told("robot_quat")[:, [3, 0, 1, 2]].astype(np.float32)
        goalie = told("task_index")[:, :1] > 0.5
        older = rotate(quat, told("robot_velocimeter").astype(np.float32))
        return np.where(goalie, older, -told("target_velp_rel_robot"))


class game:
    EPISODE_STEPS = 5000
    FIELD_HALF_LENGTH = 10.97
    GOALIE = 0
    TIMESTEP = 0.002


class Given:
    """Values by name: a frame and a clock, as far as official infos give them."""

    def __init__(self, **values):
        vars(self).update(values)

    def __getattr__(self, name):
        raise AttributeError(f"official infos do not give {name}")


def gait_phase(steps, frequency):
    """Phase in [0, 1) of a clock of ``frequency`` Hz after int (...) physics steps."""
    cycles = steps * (game.TIMESTEP * frequency)
    return cycles - cycles.__array_namespace__().floor(cycles)


def remaining(steps):
    """Share of an official episode that is left after int (...) physics steps, in [0, 1]."""
    return 1.0 - steps / game.EPISODE_STEPS


def rotate(quat, vector):
    """Rotate body-frame vectors into the world. Shapes: (..., 4), (..., 3) → (..., 3)."""
    w, v = (quat[..., :1], quat[..., 1:])
    t = 2.0 * cross(v, vector)
    return vector + w * t + cross(v, t)


def cross(a, b):
    """Cross product over the last axis. Shape: (..., 3) × (..., 3) → (..., 3)."""
    xp = a.__array_namespace__()
    ax, ay, az = (a[..., 0], a[..., 1], a[..., 2])
    bx, by, bz = (b[..., 0], b[..., 1], b[..., 2])
    return xp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def joint_pos(frame, _):
    """Joint angles, rad. (..., 12)."""
    return frame.joint_pos


def joint_vel(frame, _):
    """Joint speeds, rad/s. (..., 12)."""
    return frame.joint_vel


def gravity(frame, _):
    """Projected gravity. (..., 3)."""
    return projected_gravity(_float32(frame.imu_quat))


def _float32(x):
    """As official infos give sensors and orientation: so equal states look equal to the bit."""
    xp = x.__array_namespace__()
    return xp.astype(x, xp.float32)


def projected_gravity(imu_quat):
    """Unit gravity in the body frame; (0, 0, -1) when upright. Shape: (..., 4) → (..., 3)."""
    xp = imu_quat.__array_namespace__()
    down = xp.asarray([0.0, 0.0, -1.0], dtype=imu_quat.dtype)
    return rotate_inverse(imu_quat, xp.broadcast_to(down, (*imu_quat.shape[:-1], 3)))


def rotate_inverse(quat, vector):
    """Rotate world vectors into the body frame. Shapes: (..., 4), (..., 3) → (..., 3)."""
    w, v = (quat[..., :1], quat[..., 1:])
    t = 2.0 * cross(vector, v)
    return vector + w * t + cross(t, v)


def egocentric(frame, _):
    """Ball, aim and keeper seen from the robot's heading. (..., 9).

    Ball from the imu (2), ball velocity over the ground (2), unit vector from ball to aim (2)
    and its length over 5 m (1), keeper from the ball (2; zero where there is none).
    """
    xp = frame.ball_pos.__array_namespace__()
    forward = heading(frame.imu_quat)
    ball = frame.ball_pos[..., :2]
    way = aim(frame) - ball
    length = norm(way, eps=1e-12)[..., None]
    keeper = frame.keeper_pos[..., 0, :2] - ball
    keeper = xp.where((frame.task == game.GOALIE)[..., None], keeper, 0 * keeper)
    return xp.concat([_turned(ball - frame.imu_pos[..., :2], forward), _turned(ground_velocity(frame)[..., :2], forward), _turned(way / length, forward), length / 5.0, _turned(keeper, forward)], axis=-1)


def _turned(vector, forward):
    """World (..., 2) in the frame whose x axis is ``forward``."""
    xp = vector.__array_namespace__()
    x = vector[..., 0] * forward[..., 0] + vector[..., 1] * forward[..., 1]
    y = vector[..., 1] * forward[..., 0] - vector[..., 0] * forward[..., 1]
    return xp.stack([x, y], axis=-1)


def aim(frame):
    """Where the ball should go, m: the target, or the middle of the goal line. (..., 2)."""
    xp = frame.ball_pos.__array_namespace__()
    goal = xp.asarray([-game.FIELD_HALF_LENGTH, 0.0], dtype=frame.ball_pos.dtype)
    goalie = (frame.task == game.GOALIE)[..., None]
    return xp.where(goalie, goal, frame.target_pos[..., :2])


def ground_velocity(frame):
    """The ball's velocity over the ground, m/s, as official infos tell it. (..., 3).

    They tell it from the robot, whose own velocity the target shows, which stands still. The
    goalie task has no target, and its keepers are slowed where they touch a post: there the
    robot's velocity is its velocimeter's, 2 ms older.
    """
    xp = frame.ball_vel.__array_namespace__()
    older = rotate(_float32(frame.imu_quat), _float32(frame.velocimeter)) - frame.root_vel
    return frame.ball_vel + xp.where((frame.task == game.GOALIE)[..., None], older, 0 * older)


def heading(quat):
    """Unit vector of the body's x axis on the ground. Shape: (..., 4) → (..., 2)."""
    xp = quat.__array_namespace__()
    w, x, y, z = (quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3])
    forward = xp.stack([1.0 - 2.0 * (y * y + z * z), 2.0 * (w * z + x * y)], axis=-1)
    return forward / norm(forward, eps=1e-12)[..., None]


def norm(vector, eps=0.0):
    """Euclidean norm over the last axis; ``eps`` keeps its gradient finite at zero."""
    xp = vector.__array_namespace__()
    return xp.sqrt(xp.sum(vector * vector, axis=-1) + eps)


def clock(_, kept):
    """Sine and cosine of the gait clock. (..., 2)."""
    xp = kept.phase.__array_namespace__()
    angle = 2.0 * xp.pi * kept.phase
    return xp.stack([xp.sin(angle), xp.cos(angle)], axis=-1)


def time_left(_, kept):
    """Share of the episode that is left. (..., 1)."""
    return kept.time_left[..., None]


Preprocessor.FEATURES = ('egocentric', 'clock', 'time_left')
Preprocessor.GAIT_FREQUENCY = 1.5
Preprocessor.DECIMATION = 10
Preprocessor.PARTS = (
    joint_pos,
    joint_vel,
    gravity,
    'robot_gyro',
    'robot_accelerometer',
    'robot_velocimeter',
    'goal_team_0_rel_robot',
    'goal_team_1_rel_robot',
    'goal_team_0_rel_ball',
    'goal_team_1_rel_ball',
    'ball_xpos_rel_robot',
    'ball_velp_rel_robot',
    'ball_velr_rel_robot',
    'player_team',
    'goalkeeper_team_0_xpos_rel_robot',
    'goalkeeper_team_0_velp_rel_robot',
    'goalkeeper_team_1_xpos_rel_robot',
    'goalkeeper_team_1_velp_rel_robot',
    'target_xpos_rel_robot',
    'target_velp_rel_robot',
    'defender_xpos',
    'task_index',
    egocentric,
    clock,
    time_left,
)
