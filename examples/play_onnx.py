"""Plays an exported policy in the official game with NumPy and onnxruntime, without booster_ray.

python examples/play_onnx.py DIR/joint_targets.onnx [EPISODES]
"""

import json
import sys

import gymnasium
import mujoco
import numpy as np
import onnxruntime
import sai_mujoco  # noqa: F401  (registers the environments)

attach = mujoco.MjSpec.attach  # MuJoCo 3.4 and later rename what is attached without a prefix
mujoco.MjSpec.attach = lambda *a, prefix=None, **more: attach(*a, prefix=prefix or "", **more)
PENALTY = {"robot_distance_ball": 0.25, "ball_vel_twd_goal": 1.5, "goal_scored": 2.5, "offside": -3,
           "ball_hits": -0.2, "robot_fallen": -1.5, "ball_blocked": -0.5, "steps": -1}  # fmt: skip
KICK = {"offside": -1, "success": 2, "distance": 0.5, "steps": -0.3}
network = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
told = {k: json.loads(v) for k, v in network.get_modelmeta().custom_metadata_map.items()}
kp, kd, limit = (np.array(told[name]) for name in ("kp", "kd", "torque_limit"))


def rotated(q, v):
    """A vector of the body in the world; q is (x, y, z, w), as infos tell it."""
    return v + 2 * q[3] * np.cross(q[:3], v) + 2 * np.cross(q[:3], np.cross(q[:3], v))


def act(task, joints, info, step, action):
    """Joint targets and the action, (1, 12) each, of what the contract lists, in its order."""
    q, v = (np.float32(info[name]) for name in ("robot_quat", "robot_velocimeter"))
    (x, y, z, w), ball, goalie = np.float64(q), info["ball_xpos_rel_robot"], task == 0
    a, b = 1 - 2 * (y * y + z * z), 2 * (w * z + x * y)  # the robot's x axis on the ground
    turn = np.array([[a, b, 0], [-b, a, 0]]) / np.sqrt(a * a + b * b + 1e-12)
    own = rotated(q, v) if goalie else -info["target_velp_rel_robot"]
    way = info["goal_team_0_rel_ball"] if goalie else info["target_xpos_rel_robot"] - ball
    far, keeper = np.hypot(*way[:2]), (info["goalkeeper_team_0_xpos_rel_robot"] - ball) * goalie
    near = [turn @ ball, turn @ (info["ball_velp_rel_robot"] + own), turn @ way / far, [far / 5]]
    angle = 2 * np.pi * told["physics_timestep"] * step * (told["clock"] or {}).get("frequency", 0)
    info = info | {"joint_pos": joints[:12], "joint_vel": joints[12:24], "previous_action": action,
        "gravity": rotated(q * np.float32([-1, -1, -1, 1]), np.float32([0, 0, -1])),
        "egocentric": np.concatenate([*near, turn @ keeper]), "task_index": np.eye(3)[task],
        "clock": [np.sin(angle), np.cos(angle)], "time_left": [1 - step / 5000]}  # fmt: skip
    seen = [info[n] for part in told["observation"] for n in part.get("infos", [part["name"]])]
    return network.run(None, {"observation": np.concatenate(seen).astype(np.float32)[None]})


for task, name in enumerate(("GoaliePenaltyKick", "ObstaclePenaltyKick", "KickToTarget")):
    env, weights = gymnasium.make(f"LowerT1{name}-v0"), KICK if task == 2 else PENALTY
    for seed in range(1000, 1000 + int((*sys.argv, 2)[2])):
        (seen, info), action, over, step = env.reset(seed=seed), np.zeros(12), False, 0
        while not over:
            if step % told["decimation"] == 0:
                (target,), (action,) = act(task, seen, info, step, action)
            torque = np.clip(kp * (target - seen[:12]) - kd * seen[12:24], -limit, limit)
            seen, _, ended, cut, info = env.step(torque.astype(np.float32))
            over, step = ended or cut, step + 1
        print(name, seed, sum(w * info["reward_terms"].get(n, 1) for n, w in weights.items()))
