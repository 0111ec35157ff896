--TODO: 将来还可能在socket_mgr上增加广播方法
stream.call("on_login", acc, password);
