--调用close即可:
stream.close();
